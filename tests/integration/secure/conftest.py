"""One secure installation for all tests of this directory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from acls import documented, grant
from confluent_kafka.admin import AdminClient
from safe_site import ADMIN, Site

from kalinka_jms.lab import topics
from kalinka_jms.lab.lab import Lab


@pytest.fixture(scope="session")
def site(lab: Lab) -> Iterator[Site]:
    """Up, with the topics made by the administrator, and Kalinka's rights as the documentation gives them.

    The lab keeps other test sessions from the addresses.
    """
    state = lab.layout.state.with_name(f"{lab.layout.state.name}-secure")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    site = Site(state, lab.layout.base_address)
    with site.up():
        topics.create(site.layout, site.settings(ADMIN))
        grant(AdminClient(site.kafka(ADMIN)), documented())
        yield site
    shutil.rmtree(state, ignore_errors=True)
