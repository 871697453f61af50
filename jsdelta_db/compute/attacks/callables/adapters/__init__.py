"""Adapters: other libraries' attacks by name, one module a library, imported only when asked for.

Constructors get what they ask for of ε, norm and the number of classes, unless the user gave it by ``--set``;
all else is the library's own default.
"""
