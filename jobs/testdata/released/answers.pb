

0123456789abcdefjob(

0123456789abcdefjob
N
0123456789abcdefjob"3invalid_fieldquantity: must be more"quantity
M
0123456789abcdefjob"2out_of_stockonly 3 of tea left*
producttea
O
0123456789abcdefjob"4out_of_stockonly 3 of tea left*
producttea
O
0123456789abcdefjob"4out_of_stockonly 3 of tea left*
producttea
O
0123456789abcdefjob"4out_of_stockonly 3 of tea left*
producttea
O
0123456789abcdefjob"4out_of_stockonly 3 of tea left*
producttea
O
0123456789abcdefjob"4out_of_stockonly 3 of tea left*
producttea