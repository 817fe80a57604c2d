-- ardour7-lua render_session.lua FOLDER NAME OUT_FOLDER END_SAMPLES
-- Renders the master bus of a saved session from 0 to END_SAMPLES into OUT_FOLDER/mix.wav, without a screen.
local WAV_PRESET = "75969a1c-3133-4694-864b-a1fa50e43348" -- Ardour's own: 16-bit WAV at the session's rate, dithered
local folder, name, out_folder, end_samples = arg[1], arg[2], arg[3], tonumber(arg[4])
local session = assert(load_session(folder, name), "Ardour could not load " .. name .. " in " .. folder)
local export = session:simple_export()
export:set_name("mix")
export:set_folder(out_folder)
assert(export:set_preset(WAV_PRESET), "Ardour does not know the export preset " .. WAV_PRESET)
export:set_range(0, end_samples)
assert(export:check_outputs(), "the session has no master outputs to render")
assert(export:run_export(), "the export failed")
print("done") -- the interpreter ends with exit code 0 even when a script fails
close_session()
quit()
