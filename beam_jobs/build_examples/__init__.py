"""The job that turns photographs and labels into a data set of TFRecord shards."""
