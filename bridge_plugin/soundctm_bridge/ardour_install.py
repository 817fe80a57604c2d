"""Puts the hook where Ardour finds it, and takes it away again."""

import base64
import os
import re
import subprocess
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree as Xml

from soundctm_bridge.errors import InstallError

HOOK_FILE = "soundctm_bridge.lua"
HOOK_NAME = "SoundCTM Bridge"
_SPOOL_MARK = '"@SPOOL@"'
# In Ardour 7.3 a hook's signals are written as a string of 49 bits, the last standing for signal 0; LuaTimerDS is 47.
# The numbering differs between Ardour versions, so the hook is only switched on by us where it is known.
_SIGNALS = {"7.3": (49, 47)}


def hook_source(spool: Path) -> str:
    """The hook's Lua text with the spool folder written into it."""
    text = (resources.files("soundctm_bridge") / "scripts" / "ardour" / HOOK_FILE).read_text()
    if text.count(_SPOOL_MARK) != 1:
        raise InstallError(f"the packaged hook holds {text.count(_SPOOL_MARK)} marks {_SPOOL_MARK}, expected one")
    return text.replace(_SPOOL_MARK, _lua_string(str(spool)))


def install_hook(config_folder: Path, spool: Path) -> Path:
    """Writes the hook into Ardour's scripts folder, where its Script Manager lists it; returns the file."""
    _make_spool(spool)
    file = config_folder / "scripts" / HOOK_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(file, hook_source(spool))
    return file


def uninstall_hook(config_folder: Path) -> list[Path]:
    """Removes the hook's file and switches it off; returns the files that were removed or changed.

    Not while Ardour runs with these settings and the hook is on: it would write its list back when it ends.
    """
    changed = []
    if hook_is_enabled(config_folder):
        changed.append(_write_hooks(config_folder, _hooks_without(config_folder, HOOK_NAME)))
    file = config_folder / "scripts" / HOOK_FILE
    if file.is_file():
        file.unlink()
        changed.append(file)
    return changed


def hook_is_installed(config_folder: Path) -> bool:
    """Whether the hook's file lies in Ardour's scripts folder."""
    return (config_folder / "scripts" / HOOK_FILE).is_file()


def hook_is_current(config_folder: Path, spool: Path) -> bool:
    """Whether the installed hook is the one of this version and of this spool folder."""
    try:
        return (config_folder / "scripts" / HOOK_FILE).read_text() == hook_source(spool)
    except (OSError, UnicodeDecodeError):
        return False


def hook_is_enabled(config_folder: Path) -> bool:
    """Whether Ardour will run the hook when it starts."""
    hooks = _read_hooks(config_folder).find("ActionHooks")
    return hooks is not None and any(hook.get("name") == HOOK_NAME for hook in hooks)


def enable_hook(config_folder: Path, source: str, version: str, name: str = HOOK_NAME) -> Path:
    """Switches a hook on as Ardour's Script Manager would; returns the file that says so.

    source : the hook's Lua text. version : Ardour's, as "7.3"; the form of the list belongs to it.
    Not while Ardour runs with these settings: it would write its own list over this one when it ends.
    Raises InstallError for a version whose form is not known.
    """
    if version not in _SIGNALS:
        raise InstallError(
            f"switching the hook on by command is known for Ardour {', '.join(_SIGNALS)}, this is {version}",
            "switch it on in Ardour: Edit > Lua Scripts > Script Manager > Action Hooks > New Hook",
        )
    scripts = _hooks_without(config_folder, name)
    hooks = scripts.find("ActionHooks")
    if hooks is None:
        hooks = Xml.SubElement(scripts, "ActionHooks")
    width, timer = _SIGNALS[version]
    callback = Xml.SubElement(
        hooks,
        "LuaCallback",
        {"lua": "Lua 5.3", "id": _free_id(scripts), "name": name, "signals": f"{1 << timer:0{width}b}"},
    )
    callback.text = _stored_hook(name, source)
    return _write_hooks(config_folder, scripts)


def ardour_version() -> str:
    """Major and minor version of the installed Ardour, as "7.3".

    Raises InstallError where none is installed or it does not say.
    """
    try:
        done = subprocess.run(["ardour7-lua", "--version"], capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError as error:
        raise InstallError("no Ardour 7 is installed here", "install it: apt-get install ardour") from error
    found = re.search(r"(\d+\.\d+)", done.stdout + done.stderr)
    if found is None:
        raise InstallError("Ardour does not tell its version", "switch the hook on in Ardour's Script Manager")
    return found.group(1)


def ardour_is_running() -> bool:
    """Whether this user has an Ardour open (Linux: read from /proc)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, owner = (folder / "stat").read_text(), folder.stat().st_uid
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended, or is not ours
        process = re.match(r"\d+ \((?P<name>.*)\) (?P<state>\S)", stat, re.DOTALL)
        if process is None or process["state"] == "Z" or owner != os.getuid():
            continue  # Z: it has ended, its parent has not looked yet
        if re.match(r"ardour-?\d|ArdourGUI", process["name"], re.IGNORECASE):
            return True
    return False


def refuse_while_ardour_runs() -> None:
    """Raises InstallError while this user has an Ardour open."""
    if ardour_is_running():
        raise InstallError(
            "Ardour is running and would write its own list of hooks over ours when it ends",
            "close Ardour and try again, or use its Script Manager",
        )


def _stored_hook(name: str, source: str) -> str:
    """The form in which Ardour keeps a hook: base64 of Lua assignments to name, script, factory and arguments."""
    factory = source[source.index("function factory") :] + "\nreturn factory(...)"
    fields = {"n": name, "s": source, "f": factory}
    text = "s = {} " + "".join(f's["{key}"] = {_lua_string(value)} ' for key, value in fields.items()) + 's["a"] = {} '
    return base64.b64encode(text.encode()).decode()


def _lua_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _read_hooks(config_folder: Path) -> Xml.Element:
    file = config_folder / "ui_scripts"
    if not file.is_file():
        scripts = Xml.Element("UIScripts")
        Xml.SubElement(scripts, "ActionScript", lua="Lua 5.3")
        Xml.SubElement(scripts, "ActionHooks")
        return scripts
    try:
        return Xml.parse(file).getroot()
    except Xml.ParseError as error:
        raise InstallError(f"{file} is not the XML Ardour writes: {error}", "move it away and try again") from error


def _hooks_without(config_folder: Path, name: str) -> Xml.Element:
    scripts = _read_hooks(config_folder)
    for hooks in scripts.findall("ActionHooks"):
        for hook in [hook for hook in hooks if hook.get("name") == name]:
            hooks.remove(hook)
    return scripts


def _free_id(scripts: Xml.Element) -> str:
    taken = {element.get("id") for element in scripts.iter()}
    return next(str(number) for number in range(900_001, 1_000_000) if str(number) not in taken)


def _write_hooks(config_folder: Path, scripts: Xml.Element) -> Path:
    file = config_folder / "ui_scripts"
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(file, Xml.tostring(scripts, encoding="unicode", xml_declaration=True) + "\n")
    return file


def _write_whole(file: Path, text: str) -> None:
    part = file.with_name(file.name + ".part")
    part.write_text(text)
    part.replace(file)


def _make_spool(spool: Path) -> None:
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
