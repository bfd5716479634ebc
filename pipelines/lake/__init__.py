"""The Delta tables: all that is written to them and read from them goes through here."""
