"""Damaged files, by the thousand: `sets` makes sound ones of every format, `changes` damages them, `kinds` reads what
is left, `run` does it in processes that may crash, spin or swell without taking anything else along."""
