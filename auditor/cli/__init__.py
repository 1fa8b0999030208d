"""The command: parse, one library call, print. Each verb is read when it is asked for."""
