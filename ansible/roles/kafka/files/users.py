"""Give Kafka's users the passwords asked for, where they have others. Says whose were changed.

Its standard input, in JSON: `admin`, settings of a client that may change them; `user`, those of a user without name
and password; `passwords` by user. Kafka tells nobody what a password is, so each is tried.
"""

import json
import sys

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

SECONDS = 10
HOW = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)


def accepted(settings):
    """Whether Kafka lets that user in. Raises KafkaException where it says neither."""
    errors = []
    client = AdminClient({**settings, "log_level": 0, "error_cb": errors.append})
    try:
        client.list_topics(timeout=SECONDS)
    except KafkaException:
        client.poll(0)
        if any(error.code() == KafkaError._AUTHENTICATION for error in errors):
            return False
        raise
    return True


def main(admin, user, passwords):
    changed = {
        name: UserScramCredentialUpsertion(name, HOW, password.encode())
        for name, password in passwords.items()
        if not accepted({**user, "sasl.username": name, "sasl.password": password})
    }
    if changed:
        client = AdminClient({**admin, "log_level": 0})
        for answer in client.alter_user_scram_credentials(list(changed.values())).values():
            answer.result(SECONDS)
    for name in changed:
        print("changed", name)


if __name__ == "__main__":
    main(**json.load(sys.stdin))
