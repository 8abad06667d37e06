"""What sources share or have grown out of: a venue's rows as the desk's records, where one module cannot hold it all."""
