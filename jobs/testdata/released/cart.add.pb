
anntea