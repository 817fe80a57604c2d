ardour {
	["type"] = "EditorHook",
	name = "SoundCTM Bridge",
	author = "soundctm-daw",
	license = "Apache-2.0",
	description = [[Places generated clips on the timeline. Ten times a second it looks into a spool folder for a job
left by `soundctm bridge run`, does it as one undo step and leaves the result there. docs/bridge.md describes both.]],
}

function signals ()
	return LuaSignal.Set ():add ({ [LuaSignal.LuaTimerDS] = true })
end

-- Ardour stores this function alone, as bytecode: all the hook needs is local to it, and its only upvalue is _ENV.
function factory ()
	local INSTALLED_SPOOL = "@SPOOL@" -- `soundctm bridge install ardour` writes the folder here
	local spool = os.getenv ("SOUNDCTM_BRIDGE_SPOOL") or INSTALLED_SPOOL
	local STATE_EVERY_TICKS = 10      -- an unchanged state is still published once a second: that is the heartbeat
	local busy = false                -- Ardour runs its main loop, and so this hook, while it imports
	local ticks, last_state = 0, ""
	local last_problem                -- a problem is told once, not ten times a second

	---- the written form shared with adapters/jobs.py: one `key=value` per line, % and control characters as %XX

	local function encode (value)
		return (tostring (value):gsub ("[%%%c]", function (c) return string.format ("%%%02X", c:byte ()) end))
	end

	local function decode (text)
		return (text:gsub ("%%(%x%x)", function (hex) return string.char (tonumber (hex, 16)) end))
	end

	local function read_fields (path)
		local file = io.open (path, "r")
		if not file then return nil end
		local text = file:read ("a")
		file:close ()
		local fields = {}
		for key, value in text:gmatch ("([%w_]+)=([^\n]*)") do fields[key] = decode (value) end
		return fields
	end

	local function write_text (path, text)
		local file = assert (io.open (path .. ".part", "w"))
		file:write (text)
		file:close ()
		assert (os.rename (path .. ".part", path)) -- whole or not at all
	end

	local function written (fields)
		local lines = {}
		for key, value in pairs (fields) do lines[#lines + 1] = key .. "=" .. encode (value) .. "\n" end
		table.sort (lines)
		return table.concat (lines)
	end

	local function refuse (code, message, what_to_do)
		error ({ code = code, message = message, what_to_do = what_to_do }, 0)
	end

	---- what the session looks like now

	local function session_state ()
		local now = Temporal.timepos_t (Session:transport_sample ())
		local map = Temporal.TempoMap.read ()
		local meter, bbt = map:meter_at (now), map:bbt_at (now)
		local fields = {
			session = Session:name (),
			rate_hz = math.floor (Session:nominal_sample_rate ()),
			position_samples = Session:transport_sample (),
			tempo_bpm = string.format ("%.6f", map:quarters_per_minute_at (now)),
			meter = meter:divisions_per_bar () .. "/" .. meter:note_value (),
			bar_beat_tick = bbt.bars .. "|" .. bbt.beats .. "|" .. bbt.ticks,
			rolling = Session:transport_rolling () and 1 or 0,
		}
		map = nil
		return written (fields)
	end

	local function publish_state ()
		if spool:sub (1, 1) == "@" then
			error ("this copy does not know its spool folder; run `soundctm bridge install ardour` and choose that copy")
		end
		local state = session_state ()
		if state ~= last_state or ticks % STATE_EVERY_TICKS == 0 then
			write_text (spool .. "/state", state)
			last_state = state
		end
		ticks = ticks + 1
	end

	---- tracks, sources and regions

	local function find_track (name)
		for route in Session:get_tracks ():iter () do
			if route:name () == name then
				local track = route:to_track ()
				if track:to_audio_track ():isnil () then
					refuse ("track_not_audio", "the track '" .. name .. "' is no audio track", "name another track")
				end
				return track
			end
		end
		return nil
	end

	local function new_track (name, channels, colour)
		local made
		local list = Session:new_audio_track (
			channels, 2, nil, 1, name, ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal, true)
		for track in list:iter () do made = track end
		if not made then
			refuse ("no_track", "Ardour made no track '" .. name .. "'", "make it by hand and try again")
		end
		if colour then made:presentation_info_ptr ():set_color (colour) end
		return made
	end

	-- Copies the file into the session and returns its whole-file region.
	local function import_file (path)
		local known = {}
		for id, _ in ARDOUR.RegionFactory.regions ():iter () do known[id:to_s ()] = true end
		local files = C.StringVector ()
		files:push_back (path)
		-- The import would leave an undo step of its own (a change of selection). Begun inside another step it leaves none.
		Session:begin_reversible_command ("Import generated clip")
		Editor:do_import (
			files, Editing.ImportDistinctFiles, Editing.ImportAsRegion, ARDOUR.SrcQuality.SrcBest,
			ARDOUR.MidiTrackNameSource.SMFTrackName, ARDOUR.MidiTempoMapDisposition.SMFTempoIgnore,
			Temporal.timepos_t (0), ARDOUR.PluginInfo (), ARDOUR.Track (), false)
		Session:abort_reversible_command ()
		for id, region in ARDOUR.RegionFactory.regions ():iter () do
			if not known[id:to_s ()] then return region end
		end
		refuse ("import", "Ardour imported nothing from " .. path, "check that the file is there and is a WAV file")
	end

	-- A clip's id ends the name of every file placed for it; Ardour may add -1, -2, ... or %L, %R before the suffix.
	local function holds_clip (region, clip_id)
		local name = region:source (0):name ()
		local _, last = name:find ("_" .. clip_id, 1, true)
		return last ~= nil and name:sub (last + 1, last + 1):match ("[%w_]") == nil
	end

	local function regions_of_clip (clip_id)
		local found = {}
		for route in Session:get_tracks ():iter () do
			local track = route:to_track ()
			if not track:to_audio_track ():isnil () then
				for region in track:playlist ():region_list ():iter () do
					if holds_clip (region, clip_id) then
						found[#found + 1] = { track = track, playlist = track:playlist (), region = region }
					end
				end
			end
		end
		return found
	end

	local function region_fields (region, track)
		return {
			region_id = region:to_stateful ():id ():to_s (),
			region = region:name (),
			track = track:name (),
			position_samples = region:position ():samples (),
			length_samples = region:length ():samples (),
		}
	end

	---- fades: Ardour's Lua sets a fade's shape and length but reads neither; a session file tells both

	-- The session as it is now, as text. It is written as a snapshot that is removed at once: the user's own file is
	-- not saved, and stays as dirty as it was.
	local function session_text ()
		local snapshot = Session:path () .. "/soundctm_bridge_look"
		Session:save_state ("soundctm_bridge_look")
		local file = io.open (snapshot .. ".ardour", "r")
		if not file then
			refuse ("unreadable_session", "the session's folder cannot be written", "make room there, or make it writable")
		end
		local text = file:read ("a")
		file:close ()
		for _, suffix in ipairs ({ ".ardour", ".history" }) do os.remove (snapshot .. suffix) end
		return text
	end

	local function region_text (session, region)
		local id = region:to_stateful ():id ():to_s ()
		local _, opened = session:find ('<Region [^>]-%sid="' .. id .. '"[^>]-[^/]>')
		local closed = opened and session:find ("</Region>", opened, true)
		if not closed then
			refuse ("unreadable_region", "the region '" .. region:name () .. "' is not in the session's file", "report this")
		end
		return session:sub (opened + 1, closed - 1)
	end

	-- Half-way up, Ardour's five fade shapes differ: this value tells which one a list of points is.
	local HALF_WAY = {
		{ ARDOUR.FadeShape.FadeFast, 0.0316 },
		{ ARDOUR.FadeShape.FadeSlow, 0.0972 },
		{ ARDOUR.FadeShape.FadeLinear, 0.5 },
		{ ARDOUR.FadeShape.FadeSymmetric, 0.6 },
		{ ARDOUR.FadeShape.FadeConstantPower, 0.7071 },
	}

	local function value_at (points, when)
		for number = 2, #points do
			local before, after = points[number - 1], points[number]
			if when <= after.when then
				return before.value + (after.value - before.value) * (when - before.when) / (after.when - before.when)
			end
		end
	end

	-- side is "In" or "Out"; returns the fade's length in samples and its shape, or nil for Ardour's default fade
	local function saved_fade (xml, side)
		local events = xml:match ("<Fade" .. side .. ">.-<events>(.-)</events>")
		if not events then return nil end
		local points = {}
		for when, value in events:gmatch ("a(%d+)%s+(%S+)") do
			points[#points + 1] = { when = tonumber (when), value = tonumber (value) }
		end
		local ticks_long = points[#points].when
		local middle = value_at (points, ticks_long / 2)
		local shape, nearest = nil, math.huge
		for _, known in ipairs (HALF_WAY) do
			local distance = math.abs (known[2] - middle)
			if distance < nearest then shape, nearest = known[1], distance end
		end
		local length_samples = ticks_long * Session:nominal_sample_rate () / Temporal.superclock_ticks_per_second ()
		return math.floor (length_samples + 0.5), shape
	end

	---- a new take in an old region's clothes

	local function copy_fades (from_xml, old, fresh)
		local length, shape = saved_fade (from_xml, "In")
		if length then
			fresh:set_fade_in_length (length)
			fresh:set_fade_in_shape (shape)
		end
		length, shape = saved_fade (from_xml, "Out")
		if length then
			fresh:set_fade_out_length (length)
			fresh:set_fade_out_shape (shape)
		end
		fresh:set_fade_in_active (old:fade_in_active ())
		fresh:set_fade_out_active (old:fade_out_active ())
	end

	local function copy_gain (old, fresh)
		local points = fresh:envelope ():list ()
		points:clear_list ()
		for event in old:envelope ():list ():events ():iter () do points:add (event.when, event.value, false, false) end
		fresh:set_envelope_active (old:envelope_active ())
		fresh:set_scale_amplitude (old:scale_amplitude ())
	end

	local function dressed_like (old, imported, session)
		local fresh = ARDOUR.RegionFactory.clone_region (imported, true, false)
		local needed = old:start ():samples () + old:length ():samples ()
		if needed > imported:length ():samples () then
			refuse ("take_too_short", string.format (
				"the region '%s' needs %d samples and the new take holds %d", old:name (), needed, imported:length ():samples ()),
				"refine with the same length, or place the new take beside the old one")
		end
		fresh:set_name (old:name ())
		fresh:set_length (old:length ()) -- before the start: a region may not reach beyond its source
		fresh:set_start (old:start ())
		fresh:set_initial_position (old:position ())
		if old:sync_marked () then fresh:set_sync_position (old:sync_position ()) end
		copy_fades (region_text (session, old), old:to_audioregion (), fresh:to_audioregion ())
		copy_gain (old:to_audioregion (), fresh:to_audioregion ())
		fresh:set_muted (old:muted ())
		fresh:set_opaque (old:opaque ())
		fresh:set_hidden (old:hidden ())
		return fresh
	end

	-- Locks come last: a locked region accepts no other change.
	local function exchange (playlist, old, fresh)
		local layer = old:layer ()
		playlist:remove_region (old)
		playlist:add_region (fresh, old:position (), 1, false)
		for _ = 1, playlist:n_regions () do
			if fresh:layer () <= layer then break end
			playlist:lower_region (fresh)
		end
		fresh:set_position_locked (old:position_locked ())
		fresh:set_video_locked (old:video_locked ())
		fresh:set_locked (old:locked ())
	end

	---- the two jobs

	-- work (about_to_change) calls about_to_change (playlist) before it touches one. It may not import: see import_file.
	local function in_one_undo_step (title, work)
		local changed = {}
		local function about_to_change (playlist)
			local id = playlist:to_stateful ():id ():to_s ()
			if not changed[id] then
				playlist:to_stateful ():clear_changes ()
				changed[id] = playlist
			end
		end
		Session:begin_reversible_command (title)
		local ok, result = pcall (work, about_to_change)
		if next (changed) == nil then
			Session:abort_reversible_command ()
		else
			for _, playlist in pairs (changed) do
				Session:add_stateful_diff_command (playlist:to_statefuldestructible ())
			end
			Session:commit_reversible_command (nil)
		end
		if not ok then error (result, 0) end
		return result
	end

	local function place (job)
		local at = Temporal.timepos_t (tonumber (job.at_samples) or Session:transport_sample ())
		local track = find_track (job.track)
		local imported = import_file (job.path)
		local channels = imported:to_audioregion ():n_channels ()
		track = track or new_track (job.track, channels, tonumber (job.colour))
		return in_one_undo_step ("Place generated clip", function (about_to_change)
			local region = ARDOUR.RegionFactory.clone_region (imported, true, false)
			region:set_name (job.name)
			about_to_change (track:playlist ())
			track:playlist ():add_region (region, at, 1, false)
			return region_fields (region, track)
		end)
	end

	local function find_clip (clip_ids)
		for clip_id in clip_ids:gmatch ("%S+") do
			local found = regions_of_clip (clip_id)
			if #found > 0 then return found end
		end
		refuse ("no_region", "no track holds a region of the clip " .. clip_ids,
			"place the clip first; a region that was stretched, reversed or bounced no longer counts as the clip's")
	end

	local function replace (job)
		local found = find_clip (job.clip_ids)
		local imported = import_file (job.path)
		local session = session_text ()
		for _, place in ipairs (found) do place.fresh = dressed_like (place.region, imported, session) end
		return in_one_undo_step ("Refine generated clip", function (about_to_change)
			local result = { regions = #found }
			for number, place in ipairs (found) do
				about_to_change (place.playlist)
				exchange (place.playlist, place.region, place.fresh)
				for key, value in pairs (region_fields (place.fresh, place.track)) do
					result[key .. "_" .. number] = value
				end
			end
			return result
		end)
	end

	local JOBS = { place = place, replace = replace }

	local function run (job)
		if tonumber (job.expires_unix_seconds) < os.time () then
			refuse ("expired", "the job waited too long for Ardour", "send the request again")
		end
		local work = JOBS[job.verb]
		if not work then
			refuse ("unknown_job", "the hook knows no job '" .. tostring (job.verb) .. "'",
				"run `soundctm bridge install ardour` so that hook and bridge have one version")
		end
		return work (job)
	end

	local function take_job ()
		if not os.rename (spool .. "/job", spool .. "/job.taken") then return end -- taken once, by one Ardour
		local job = read_fields (spool .. "/job.taken")
		os.remove (spool .. "/job.taken")
		local ok, result = pcall (run, job)
		if ok then
			result.ok = 1
		else
			local told = type (result) == "table"
			result = {
				ok = 0,
				code = told and result.code or "lua",
				message = told and result.message or tostring (result),
				what_to_do = told and result.what_to_do or "see Ardour's log window",
			}
		end
		write_text (spool .. "/result." .. job.id, written (result))
	end

	return function (signal, ref, ...)
		if busy then return end
		busy = true
		-- an error that left this function would make Ardour drop the hook for the rest of the session
		local ok, problem = pcall (function ()
			publish_state ()
			take_job ()
		end)
		busy = false
		if not ok and problem ~= last_problem then print ("SoundCTM Bridge: " .. tostring (problem)) end
		last_problem = problem
	end
end
