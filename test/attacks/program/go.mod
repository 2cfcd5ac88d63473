module chorus-sandbox/attacks

go 1.24
