"""The command: parse options, call the library, print. Verbs are imported when used."""
