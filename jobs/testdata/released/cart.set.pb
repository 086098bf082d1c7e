
annteaN