"""Following one signed git repository: verify, fetch, build, activate, and put back what went wrong.

    a push (control socket)      a head record (gossip)
              |                          |
              v                          v
    quarantine: bundle            quarantine: fetch from a holder        repository.py, transfer.py, bundle.py
              \\                         /
               signed head, signed commits, fast-forward       claims.py, signers.py, commits.py, following.py
                          |
                     published, then followed                            repository.py, selection.py
                          |
              checkout, build (child of the daemon)                      config.py, build.py, drivers.py
                          |                                              nixos.py: nix.py, store.py, bridge.py
                          |
              steward.launch(activation)                                 steward.py: the only way to root
      - - - - - - - - - - | - - - - - - - - - - - - - - - - - - - - - - -
              guard > worker: test, health, commit | rollback            activator.py, guard.py, scripts.py
                          |                                              nixos: switching.py, toplevel.py
                          |      compared with how it was before         baseline.py, health.py, systemctl.py
                          |      the daemon itself is restarted          renewal.py, asking.py
                          |      the outcome is told                     hooks.py
                          |      systemd takes over what hangs           deadman.py
                          |
              activation.state.json, read by the daemon                  activation.py, machine.py, journal.py

What is below the dashed line runs without the daemon, survives it, and imports nothing but the standard library,
and of that no more than it needs (jsontext.py, tuples.py).

Nothing here is imported by default: the activator's start must stay cheap.
"""
