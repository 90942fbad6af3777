"""What an audit concludes from decoded code: guarded or bare uses, misaligned operands, ISA notes."""
