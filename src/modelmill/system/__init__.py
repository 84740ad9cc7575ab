"""What is asked of the machine: files on the disk, locks, memory, devices."""
