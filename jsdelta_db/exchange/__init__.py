"""Exchange of rows and files between stores and machines: exports, imports, attacks without a database.

Only finished runs travel, and a run becomes visible in the last transaction of its merge. Start reading at
:mod:`~jsdelta_db.exchange.tables`.
"""
