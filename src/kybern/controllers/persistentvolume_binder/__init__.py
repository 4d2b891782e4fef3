"""Claims and volumes: bind, release and recycle them. (being written)"""
