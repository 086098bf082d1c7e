
anntea