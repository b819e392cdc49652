"""Types of the fields of the settings: addresses, names, files, secrets, Kafka's table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo

from kalinka_jms.config.secret import Secret

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
GROUP = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"
KAFKA_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
ConfigValue = str | int | float | bool | Secret


def _resolved(path: str, info: ValidationInfo) -> str:
    """Relative paths count from the folder of the configuration file, wherever the process was started."""
    base = (info.context or {}).get("base", Path())
    return str(Path(base) / Path(path).expanduser())


def _readable(path: Any, info: ValidationInfo) -> str:
    if not isinstance(path, str) or not path:
        raise ValueError("should be the path of a PEM file")
    full = _resolved(path, info)
    try:
        with Path(full).open("rb"):
            return full
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}; should be the path of a PEM file") from None


def _secret(value: Any, info: ValidationInfo) -> Secret:
    secret = value if isinstance(value, Secret) else _parsed_secret(value, info)
    secret.read()
    return secret


def _parsed_secret(value: Any, info: ValidationInfo) -> Secret:
    match value:
        case str():
            return Secret(value)
        case {"env": str(name), **rest} if not rest:
            return Secret(env=name)
        case {"file": str(path), **rest} if not rest:
            return Secret(file=_resolved(path, info))
    raise ValueError('should be a text, { env = "NAME" } or { file = "/path" }')


def _config_value(value: Any, info: ValidationInfo) -> ConfigValue:
    if isinstance(value, str | int | float | bool | Secret):
        return value
    if isinstance(value, dict):
        return _secret(value, info)
    raise ValueError('should be a text, a number, true, false, { env = "NAME" } or { file = "/path" }')


def flattened(table: Any) -> Any:
    """Kafka keys have dots, and TOML makes tables of dots that are not in quotes: both spellings mean the same key."""
    if not isinstance(table, Mapping):
        return table
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and not set(value) <= {"env", "file"}:
            flat |= {f"{key}.{rest}": inner for rest, inner in flattened(value).items()}
        else:
            flat[key] = value
    return flat


def _located(table: dict[str, ConfigValue], info: ValidationInfo) -> dict[str, ConfigValue]:
    files = {key for key, value in table.items() if key.endswith(".location") and value != "probe"}
    return {
        key: _resolved(value, info) if key in files and isinstance(value, str) else value
        for key, value in table.items()
    }


def split_address(url: str) -> SplitResult:
    """The parts of a STOMP address. Raises ValueError with what would be right."""
    right = "should look like stomp://host:61613, or stomps://host:61614 for TLS"
    return _split(url, ("stomp", "stomps"), right)


def split_mqtt(url: str) -> SplitResult:
    """The parts of an MQTT address. Raises ValueError with what would be right."""
    return _split(url, ("mqtt", "mqtts"), "should look like mqtt://host:1883, or mqtts://host:8883 for TLS")


def _split(url: str, schemes: tuple[str, str], right: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(right) from None
    if "@" in parts.netloc:
        raise ValueError("should hold no login: use the keys login and passcode")
    if parts.scheme not in schemes or not parts.hostname or not port or any(url.count(sign) for sign in " ?#"):
        raise ValueError(right)
    if parts.path.strip("/"):
        raise ValueError(right)
    return parts


def _queue(name: str) -> str:
    if not name or name.startswith(("queue:", "topic:", "/")) or any(sign in name for sign in " ,?\t\n"):
        raise ValueError('should be a name like "kalinka.mqtt.pub" (no "/queue/" before it; no blank, "," or "?")')
    return name


def _kafka_topic(name: str) -> str:
    if not is_kafka_topic(name):
        raise ValueError("should be the name of a Kafka topic (letters, digits, . _ -; at most 249)")
    return name


def is_kafka_topic(name: str) -> bool:
    """Kafka's own rule: at most 249 of letters, digits, `.`, `_`, `-`; not `.` nor `..`."""
    return KAFKA_TOPIC.fullmatch(name) is not None and name not in (".", "..")


def _stomp(url: str) -> str:
    split_address(url)
    return url


def _mqtt(url: str) -> str:
    split_mqtt(url)
    return url


Address = Annotated[str, AfterValidator(_stomp)]
MqttAddress = Annotated[str, AfterValidator(_mqtt)]
Queue = Annotated[str, AfterValidator(_queue)]
KafkaTopic = Annotated[str, AfterValidator(_kafka_topic)]
SecretValue = Annotated[Secret, PlainValidator(_secret)]
PemFile = Annotated[str, BeforeValidator(_readable)]
Count = Annotated[int, Field(strict=True, ge=1)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=86_400, allow_inf_nan=False)]
Age = Annotated[float, Field(strict=True, gt=0, le=10 * 366 * 86_400, allow_inf_nan=False)]
Interval = Annotated[float, Field(strict=True, ge=0.1, le=600)]
Switch = Annotated[bool, Field(strict=True)]
Envelope = Literal["plain", "reference"]
Scalar = Annotated[ConfigValue, PlainValidator(_config_value)]
KafkaTable = Annotated[dict[str, Scalar], BeforeValidator(flattened), AfterValidator(_located)]
