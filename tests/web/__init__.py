"""A package, so that what its tests share (scope="package") ends with them: a browser that runs would disturb others."""
