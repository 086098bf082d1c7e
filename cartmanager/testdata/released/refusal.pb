out_of_stockonly 3 of tea left*
producttea