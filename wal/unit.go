package wal

// Capture says which columns of which tables are read: full table name to the
// names of the columns that are kept. Everything else is dropped at the door,
// before it is decoded.
type Capture map[string][]string

// Unit is what a snapshot reads as one: the roots of one aggregate with all
// their children.
type Unit struct {
	Aggregate string
	Root      UnitTable
}

// UnitTable is one table of a unit. Key are the indexes of the columns that
// identify a row, in key order. Parent pairs a column of this table with the
// column of the parent's table that it equals; it is empty for the root.
type UnitTable struct {
	Table    *Table
	Key      []int
	Parent   [][2]int
	Children []UnitTable
}

// Tree is one row of a unit's table with its children, by the index of
// UnitTable.Children.
type Tree struct {
	Row      Row
	Children [][]Tree
}

// Size is about how many bytes of memory the tree takes.
func (t *Tree) Size() int64 {
	n := int64(64)
	for i := range t.Row {
		n += 32 + int64(len(t.Row[i].Bytes))
	}
	for _, table := range t.Children {
		for i := range table {
			n += table[i].Size()
		}
	}
	return n
}
