
anntok_visaann@example.org