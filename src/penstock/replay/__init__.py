"""5. Replay: compute a past range anew from the log, by the same declaration, and publish it in one stroke."""
