package cluster

// Speaking returns the configuration for a node that speaks versions of the wire encoding.
func (c Config) Speaking(from, to uint8) Config {
	c.minVersion, c.maxVersion = from, to
	return c
}
