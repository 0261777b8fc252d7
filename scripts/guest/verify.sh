verify_with_fio "$FIO_SIZE"
