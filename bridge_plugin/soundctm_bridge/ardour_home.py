"""A scratch home for Ardour 7: no first-run wizard, the dummy audio device at a given rate, OSC switched on."""

from pathlib import Path
from xml.etree import ElementTree as Xml

CONFIG_FOLDER = Path(".config") / "ardour7"


def write_scratch_home(home: Path, rate_hz: int, buffer_samples: int = 1024) -> Path:
    """Writes the settings Ardour reads at start below `home`; returns the Ardour configuration folder in it."""
    folder = home / CONFIG_FOLDER
    (folder / "scripts").mkdir(parents=True, exist_ok=True)
    (folder / ".a7").touch()  # "this user has seen the first-run wizard"
    Xml.ElementTree(_config(rate_hz, buffer_samples)).write(folder / "config", encoding="UTF-8", xml_declaration=True)
    return folder


def _config(rate_hz: int, buffer_samples: int) -> Xml.Element:
    ardour = Xml.Element("Ardour")
    config = Xml.SubElement(ardour, "Config")
    for name, value in {"hide-dummy-backend": "0", "try-autostart-engine": "1"}.items():
        Xml.SubElement(config, "Option", name=name, value=value)
    states = Xml.SubElement(Xml.SubElement(Xml.SubElement(ardour, "Extra"), "AudioMIDISetup"), "EngineStates")
    Xml.SubElement(
        states,
        "State",
        {
            "backend": "None (Dummy)",
            "driver": "Normal Speed",
            "device": "Silence",
            "input-device": "",
            "output-device": "",
            "sample-rate": str(rate_hz),
            "buffer-size": str(buffer_samples),
            "n-periods": "0",
            "input-latency": "0",
            "output-latency": "0",
            "lm-input": "",
            "lm-output": "",
            "active": "1",
            "use-buffered-io": "0",
            "midi-option": "1 in, 1 out, Silence",
            "lcid": "0",
        },
    )
    protocols = Xml.SubElement(ardour, "ControlProtocols")
    Xml.SubElement(
        protocols,
        "Protocol",
        {
            "name": "Open Sound Control (OSC)",
            "feedback": "0",
            "debugmode": "0",
            "address-only": "1",
            "remote-port": "8000",
            "banksize": "0",
            "striptypes": "31",
            "gainmode": "0",
            "send-page-size": "0",
            "plug-page-size": "0",
            "active": "1",
        },
    )
    return ardour
