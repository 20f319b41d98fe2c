"""One module for each group of commands: it asks the daemon and hands the answer to `clanctl.render`."""
