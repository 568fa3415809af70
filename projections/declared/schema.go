package declared

// Schema is the JSON Schema of a definition, for editors: docs/projection.schema.json.
func Schema() ([]byte, error) {
	return grammar.Schema("projection.schema.json", "A projection of Banyan")
}
