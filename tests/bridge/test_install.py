"""The hook is put where Ardour finds it, switched on beside other hooks, and taken away without a trace."""

from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from typer.testing import CliRunner

from soundctm_bridge import ardour_install
from soundctm_bridge.cli import app
from soundctm_bridge.errors import InstallError

OTHERS = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<UIScripts><ActionScript lua="Lua 5.3">c2NyaXB0</ActionScript>'
    '<ActionHooks><LuaCallback lua="Lua 5.3" id="900001" name="Mine" signals="1">eA==</LuaCallback>'
    "</ActionHooks></UIScripts>\n"
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "ardour7"


def enable(config: Path, spool: Path) -> None:
    ardour_install.enable_hook(config, ardour_install.hook_source(spool), "7.3")


def hooks(config: Path) -> list[Xml.Element]:
    return Xml.parse(config / "ui_scripts").getroot().findall("ActionHooks/LuaCallback")


def test_the_installed_hook_knows_its_spool_folder(config: Path, tmp_path: Path) -> None:
    spool = tmp_path / 'a "quoted" \\ folder'
    file = ardour_install.install_hook(config, spool)
    assert file == config / "scripts" / "soundctm_bridge.lua"
    text = file.read_text()
    assert '"@SPOOL@"' not in text
    assert str(spool).replace("\\", "\\\\").replace('"', '\\"') in text
    assert spool.is_dir()


def test_switching_on_keeps_other_scripts_and_hooks(config: Path, tmp_path: Path) -> None:
    config.mkdir()
    (config / "ui_scripts").write_text(OTHERS)
    for _ in range(2):  # a second time replaces, it does not add
        enable(config, tmp_path)
    mine, ours = hooks(config)
    assert (mine.get("name"), ours.get("name")) == ("Mine", "SoundCTM Bridge")
    assert ours.get("id") != mine.get("id")
    assert Xml.parse(config / "ui_scripts").getroot().findtext("ActionScript") == "c2NyaXB0"


def test_the_switched_on_hook_is_the_packaged_one(config: Path, tmp_path: Path) -> None:
    enable(config, tmp_path)
    (ours,) = hooks(config)
    signals = ours.attrib["signals"]
    assert (len(signals), signals.count("1"), signals[::-1].index("1")) == (49, 1, 47)
    stored = base64.b64decode(ours.text or "").decode()
    assert "do_import" in stored and stored.startswith("s = {}")
    assert "\n" not in stored  # it is one Lua chunk of one line


def test_an_unknown_ardour_is_left_to_the_script_manager(config: Path, tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"known for Ardour 7\.3, this is 8\.0.*Script Manager"):
        ardour_install.enable_hook(config, ardour_install.hook_source(tmp_path), "8.0")
    assert not (config / "ui_scripts").exists()


def test_a_broken_list_of_hooks_is_not_overwritten(config: Path, tmp_path: Path) -> None:
    config.mkdir()
    (config / "ui_scripts").write_text("<UIScripts>")
    with pytest.raises(InstallError, match="is not the XML Ardour writes"):
        enable(config, tmp_path)
    assert (config / "ui_scripts").read_text() == "<UIScripts>"


def test_uninstall_leaves_what_was_there_before(config: Path, tmp_path: Path) -> None:
    config.mkdir()
    (config / "ui_scripts").write_text(OTHERS)
    ardour_install.install_hook(config, tmp_path)
    enable(config, tmp_path)
    assert ardour_install.hook_is_installed(config) and ardour_install.hook_is_enabled(config)
    ardour_install.uninstall_hook(config)
    assert not ardour_install.hook_is_installed(config) and not ardour_install.hook_is_enabled(config)
    assert [hook.get("name") for hook in hooks(config)] == ["Mine"]
    assert ardour_install.uninstall_hook(config) == []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return tmp_path


def test_the_command_installs_tells_and_uninstalls(home: Path) -> None:
    run = CliRunner().invoke
    installed = run(app, ["install", "ardour"])
    assert installed.exit_code == 0, installed.output
    assert "Script Manager" in installed.output
    file = home / "config" / "ardour7" / "scripts" / "soundctm_bridge.lua"
    assert str(home / "xdg") in file.read_text()
    told = run(app, ["status"])
    assert told.exit_code == 1
    assert "hook file:   installed" in told.output and "does not answer" in told.output
    assert run(app, ["uninstall", "ardour"]).exit_code == 0
    assert not file.exists()


def test_an_unknown_daw_is_a_usage_error(home: Path) -> None:
    result = CliRunner().invoke(app, ["install", "garageband"])
    assert result.exit_code == 2
