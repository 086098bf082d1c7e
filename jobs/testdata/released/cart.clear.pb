
ann