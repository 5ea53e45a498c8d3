"""Every command of the shell, one module each."""
