"""Everything that runs on a bare GPU node: neither database nor tracker."""
