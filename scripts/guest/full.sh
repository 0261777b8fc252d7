for type in $TYPES; do
    use_filesystem "$type"
done
use_partitions
verify_with_fio "$FIO_SIZE"
