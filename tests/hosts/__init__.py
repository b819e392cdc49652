"""The proof on three booted hosts (`make test-hosts`): deployed by Ansible, then the demo, then hosts that break."""
