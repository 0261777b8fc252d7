check_after_cut ./synced $TYPES
