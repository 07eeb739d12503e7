"""Reading any Q/DQ model: what is quantized, how, why; and how two of them differ."""
