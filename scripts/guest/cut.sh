write_until_cut_off $TYPES
