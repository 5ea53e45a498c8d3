"""How good is a bundle? Each evaluation is a file; runnable.py says which."""
