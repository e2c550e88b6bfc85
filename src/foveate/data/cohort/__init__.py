"""Who is in a data set: labelled images, patients, splits, and what must not be seen twice."""
