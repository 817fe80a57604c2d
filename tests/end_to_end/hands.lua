ardour {
	["type"] = "EditorHook",
	name = "Hands",
	description = [[Test only: runs the Lua text of the file named by SOUNDCTM_TEST_HANDS once it is there, as a person's edits.]],
}

function signals ()
	return LuaSignal.Set ():add ({ [LuaSignal.LuaTimerDS] = true })
end

function factory ()
	local path = os.getenv ("SOUNDCTM_TEST_HANDS")
	return function ()
		if not path or not os.rename (path, path .. ".taken") then return end
		local file = io.open (path .. ".taken", "r")
		local text = file:read ("a")
		file:close ()
		local work, problem = load (text)
		local ok = false
		if work then ok, problem = pcall (work) end
		local result = io.open (path .. ".part", "w")
		result:write (ok and "ok" or tostring (problem))
		result:close ()
		os.rename (path .. ".part", path .. ".result")
	end
end
