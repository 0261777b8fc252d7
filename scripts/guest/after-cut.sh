check_after_cut "$TYPES" ./synced
