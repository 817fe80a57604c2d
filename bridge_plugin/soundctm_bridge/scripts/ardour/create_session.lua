-- ardour7-lua create_session.lua FOLDER NAME RATE_HZ BPM
-- Makes an empty session at a rate and a tempo, without a screen. FOLDER must not exist yet.
local folder, name, rate_hz, bpm = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4])
local session = assert(create_session(folder, name, rate_hz), "Ardour could not create a session in " .. folder)
local map = Temporal.TempoMap.fetch_writable()
map:set_tempo(Temporal.Tempo(bpm, bpm, 4), Temporal.timepos_t(0))
Temporal.TempoMap.update(map)
map = nil
session:save_state("")
print("done") -- the interpreter ends with exit code 0 even when a script fails
close_session()
quit()
