"""Container logs: lines.py turns CRI log lines into output, files.py reads and follows. The query is read by
machinery/log_options.

Format of the files (CRI): `<RFC 3339 time> stdout|stderr F|P <text>`, P for a line that goes on in the next entry.
"""
