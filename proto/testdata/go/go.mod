module ringway/golden

go 1.19
