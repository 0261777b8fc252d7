measure "$NAME"
