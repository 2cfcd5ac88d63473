module chorus-sandbox/hostile-guest

go 1.24
