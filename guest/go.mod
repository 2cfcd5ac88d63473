module chorus-sandbox/guest

go 1.24
