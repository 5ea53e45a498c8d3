"""Which note leads, eight times a second: a melody that small stages can follow."""
