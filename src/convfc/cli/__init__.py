"""The program: arguments in, tables or JSON out, an exit code."""
