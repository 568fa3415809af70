package declared

import (
	"regexp"

	"banyan/internal/document"
)

// The grammar says what a file may hold. Load checks against it and Schema
// prints it, so that editors and the command never disagree.

func one(doc, want string, pattern *regexp.Regexp) *document.Shape {
	return &document.Shape{Form: document.Scalar, Doc: doc, Want: want, Pattern: pattern}
}

func expressionShape(doc string) *document.Shape { return one(doc, "an expression", nil) }

func truth(doc string) *document.Shape { return &document.Shape{Form: document.Flag, Doc: doc} }

func words(doc string, w ...string) *document.Shape {
	return &document.Shape{Form: document.Scalar, Doc: doc, Words: w}
}

func listOf(doc, want string, item *document.Shape) *document.Shape {
	return &document.Shape{Form: document.List, Doc: doc, Want: want, Item: item, Filled: true}
}

func mapOf(doc, want string, item *document.Shape) *document.Shape {
	return &document.Shape{Form: document.Map, Doc: doc, Want: want, Item: item, Filled: true, KeyPattern: ownName, KeyWant: ownNameWant}
}

func object(doc, want string, fields ...document.Field) *document.Shape {
	return &document.Shape{Form: document.Object, Doc: doc, Want: want, Fields: fields}
}

func either(doc string, of ...*document.Shape) *document.Shape {
	return &document.Shape{Doc: doc, Either: of}
}

func need(name string, s *document.Shape) document.Field {
	return document.Field{Name: name, Shape: s, Required: true}
}

func may(name string, s *document.Shape) document.Field { return document.Field{Name: name, Shape: s} }

const ownNameWant = "a plain SQL name: small letters, digits and _, at most 50, that begins with a letter"

var (
	projectionName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)
	ownName        = regexp.MustCompile(`^[a-z][a-z0-9_]{0,49}$`)
	sourceName     = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`)
	topicName      = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)
	eventType      = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
	typeOrStar     = regexp.MustCompile(`^(\*|[A-Z][A-Za-z0-9]{0,62})$`)
	currencyCode   = regexp.MustCompile(`^[A-Z]{3}$`)
	tokenText      = regexp.MustCompile(`^[1-9][0-9]{0,8}:[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$`)
	pathText       = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
	versionText    = regexp.MustCompile(`^[1-9][0-9]{0,5}$`)
	pathName       = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	headerName     = regexp.MustCompile(`^[A-Za-z0-9-]{1,100}$`)
)

func comment() *document.Shape { return one("A comment for people.", "a text", nil) }

func duration(doc string) *document.Shape {
	return one(doc, "a duration such as 90s, 24h or 7d", document.DurationPattern)
}

func typeList(doc string) *document.Shape {
	item := one("", `an event type such as OrderPlaced, or "*" for all others`, typeOrStar)
	return listOf(doc, `a list of event types, such as [OrderPlaced], or ["*"]`, item)
}

func topic() *document.Shape {
	return one("The topic whose events are taken.", "the name of a topic, such as shop.orders", topicName)
}

func names(doc string) *document.Shape {
	name := one("", "the name of a column", ownName)
	return either(doc, name, listOf("", "a list of columns", name))
}

func columnShape() *document.Shape {
	return either("A column: TYPE [key] [not null] [= EXPRESSION].",
		one("", "TYPE [key] [not null] [= EXPRESSION], such as bigint key, or text = state.name", nil),
		object("", "a mapping with type, key, not_null, value, comment",
			need("type", one("The Postgres type.", "a Postgres type such as bigint, text or numeric(12,3)", nil)),
			may("key", truth("The column belongs to the primary key.")),
			may("not_null", truth("The column is NOT NULL.")),
			may("value", expressionShape("The value; left out, the field of the column's name.")),
			may("comment", comment())))
}

func measureShape() *document.Shape {
	return either("What is counted or summed.",
		words("", "count"),
		object("", "a mapping with count, sum, avg, min, max or distinct",
			may("count", truth("Counts.")),
			may("sum", expressionShape("Adds up numbers; the sum of nothing is 0.")),
			may("avg", expressionShape("The mean of what is not NULL.")),
			may("min", expressionShape("The least value.")),
			may("max", expressionShape("The greatest value.")),
			may("distinct", expressionShape("How many different values there are.")),
			may("where", expressionShape("Only what this holds for.")),
			may("type", one("The column's Postgres type.", "a Postgres type such as numeric(14,3)", nil)),
			may("currency", one("The currency of a sum of money; another one parks.", "a currency such as GBP", currencyCode)),
			may("comment", comment())))
}

func indexes() *document.Shape {
	return listOf("Secondary indexes.", "a list of columns, or of {columns, unique}", either("",
		one("", "the name of a column", ownName),
		object("", "a mapping with columns and unique", need("columns", names("Its columns, in order.")), may("unique", truth("No two rows have the same.")))))
}

func retentionOf() *document.Shape {
	return object("Rows that are older may go.", "a mapping with column and for", need("column", one("The column of the row's time or day.", "the name of a column", ownName)),
		need("for", duration("How long rows are kept, by the time of the source.")))
}

func tablesShape() *document.Shape {
	return mapOf("Tables: rows by the aggregate's key.", "a mapping of tables", object("A table.", "",
		need("from", either("The topic, or the topics in aligned order.", topic(), listOf("", "a list of topics", topic()))),
		need("columns", mapOf("The columns.", "a mapping of columns to types", columnShape())),
		may("each", expressionShape("A list: a row for each of its items, which is called item.")),
		may("when", expressionShape("Only rows for which this holds are there.")),
		may("upsert", typeList("Events that write the row.")),
		may("delete", typeList("Events that delete it.")),
		may("ignore", typeList("Events that mean nothing here.")),
		may("indexes", indexes()),
		may("retention", retentionOf()),
		may("comment", comment())))
}

func sourceFields() []document.Field {
	return []document.Field{
		may("of", words("state counts what is, events what happened.", "state", "events")),
		may("types", typeList("The event types that count; needed with of: events.")),
		may("each", expressionShape("A list: each of its items counts, and is called item.")),
		may("when", expressionShape("Only what this holds for counts.")),
		may("values", mapOf("Names for use in by and measures.", "a mapping of names to expressions", expressionShape(""))),
	}
}

func fromShape() *document.Shape {
	source := object("A topic and what it adds.", "a mapping with topic", append([]document.Field{need("topic", topic())}, sourceFields()...)...)
	return either("The topic, or a list of topics with what each adds.", topic(), listOf("", "a list of mappings with topic", source))
}

func groupsShape() *document.Shape {
	fields := append([]document.Field{need("from", fromShape())}, sourceFields()...)
	fields = append(fields,
		need("by", mapOf("The key of the group: columns.", "a mapping of columns to types", columnShape())),
		need("measures", mapOf("What is counted and summed.", "a mapping of columns to measures", measureShape())),
		may("comment", comment()))
	return mapOf("Groups: counts and sums by any key.", "a mapping of groups", object("A group.", "", fields...))
}

func windowsShape() *document.Shape {
	size := object("Its kind and size.", "one of {tumbling: 5m}, {hopping: 5m, every: 1m}, {session: 30m}",
		may("tumbling", duration("Windows of this length, one after the other.")),
		may("hopping", duration("Windows of this length that overlap.")),
		may("every", duration("How often a hopping window begins.")),
		may("session", duration("The pause that ends a session.")))
	return mapOf("Windows: counts and sums by any key and span of time.", "a mapping of windows", object("A window.", "",
		need("from", topic()),
		need("by", mapOf("The key: columns.", "a mapping of columns to types", columnShape())),
		need("window", size),
		need("measures", mapOf("What is counted and summed.", "a mapping of columns to measures", measureShape())),
		need("types", typeList("The event types that count.")),
		may("each", expressionShape("A list: each of its items counts, and is called item.")),
		may("when", expressionShape("Only what this holds for counts.")),
		may("values", mapOf("Names for use in by and measures.", "a mapping of names to expressions", expressionShape(""))),
		may("time", expressionShape("The business time; left out, the time of the commit.")),
		may("grace", duration("How much later than the window's end an event may come.")),
		may("late", words("What becomes of events that come later still.", "drop", "add", "park")),
		may("having", expressionShape("A condition over measures: when it first holds, alerted_at is set.")),
		may("alert", words("Ask the condition at every event, or once at the end.", "early", "close")),
		may("retention", duration("How long windows are kept after their end.")),
		may("indexes", indexes()),
		may("comment", comment())))
}

func settingsShape() *document.Shape {
	value := one("A value.", "a value", nil)
	step := object("A value from a token on.", "a mapping with from and value",
		need("from", one("A token generation:LSN; what was committed later sees the value.", "a token such as 1:0/1A2B3C8", tokenText)),
		need("value", value))
	return mapOf("Values that may change at a point of the history.", "a mapping of names to values",
		either("A value, or a list of the first one and later ones.", value,
			listOf("", "a list such as [3, {from: \"1:0/1A2B3C8\", value: 5}]", either("", value, step))))
}

func timersShape() *document.Shape {
	set := mapOf("Columns and their values.", "a mapping of columns to expressions", expressionShape(""))
	return mapOf("What is due later.", "a mapping of timers", object("A timer.", "",
		need("from", topic()),
		need("on", typeList("Events that set it.")),
		need("at", expressionShape("When it is due.")),
		may("when", expressionShape("Only if this holds it is set.")),
		may("cancel_on", typeList("Events that take it back.")),
		may("keep", mapOf("Values kept until it fires, as timer.data.", "a mapping of names to expressions", expressionShape(""))),
		may("then", object("What happens to rows when it fires.", "a mapping with upsert",
			need("upsert", mapOf("Rows to write, by table.", "a mapping of tables to columns", set)))),
		may("comment", comment())))
}

func effectsShape() *document.Shape {
	text := func(doc string) *document.Shape { return one(doc, "a text, with ${expression} in it", nil) }
	mail := object("A mail.", "a mapping with to, subject, body",
		need("to", text("Addresses with commas.")), may("from", text("The sender.")), need("subject", text("The subject.")), need("body", text("The text.")))
	headers := mapOf("Headers.", "a mapping of headers to texts", text(""))
	headers.KeyPattern, headers.KeyWant = headerName, "the name of a header"
	members := mapOf("A body of JSON, by names and expressions.", "a mapping of names to expressions", expressionShape(""))
	members.KeyPattern, members.KeyWant = pathText, "a name"
	call := object("An HTTP call.", "a mapping with url and body or json",
		need("url", text("Where to.")), may("method", words("POST where left out.", "POST", "PUT", "PATCH", "DELETE")),
		may("headers", headers), may("body", text("The body.")), may("json", members))
	on := either("What it is promised on.", typeList("Event types."),
		object("", "a mapping with window and at, or with timer", may("window", one("A window with having.", "the name of a window", ownName)),
			may("at", words("At once, or when the window is over.", "early", "close")), may("timer", one("A timer that fires.", "the name of a timer", ownName))))
	return mapOf("Mails and calls.", "a mapping of effects", object("An effect.", "",
		need("on", on), may("from", topic()), may("when", expressionShape("Only if this holds.")),
		may("since", words("Whether events from before the first start count.", "now", "start")),
		may("mail", mail), may("http", call), may("comment", comment())))
}

func upcastShape() *document.Shape {
	path := one("", "a path into the data, such as state.customer_id", pathText)
	paths := func(doc string, item *document.Shape) *document.Shape {
		s := mapOf(doc, "a mapping of paths", item)
		s.KeyPattern, s.KeyWant = pathText, "a path into the data, such as state.customer_id"
		return s
	}
	s := mapOf("How old versions of an event become the one known here.", "a mapping of event types to steps",
		listOf("Steps from version to version.", "a list of steps such as {from: 1, rename: {state.a: state.b}}", object("A step.", "",
			need("from", one("The version that it lifts, to the next.", "a version from 1", versionText)),
			may("rename", paths("Old paths to new ones.", path)), may("set", paths("Paths to expressions.", expressionShape(""))),
			may("drop", listOf("Paths that go.", "a list of paths", path)))))
	s.KeyPattern, s.KeyWant = eventType, "an event type such as OrderPlaced"
	return s
}

func viewsShape() *document.Shape {
	query := one("A SELECT over tables, groups and windows of this projection.", "a SELECT", nil)
	return mapOf("Views.", "a mapping of names to SELECTs", either("", query,
		object("", "a mapping with sql and comment", need("sql", query), may("comment", comment()))))
}

func apiShape() *document.Shape {
	name := one("The table, group, window or view that is served.", "the name of a table, group, window or view", ownName)
	s := mapOf("Names in the paths of the read API.", "a mapping of names to tables", either("", name,
		object("", "a mapping with of and key", need("of", name), may("key", names("The columns that the path names, for views.")))))
	s.KeyPattern, s.KeyWant = pathName, "a name of small letters, digits, _ and -"
	return s
}

// grammar is the whole file.
var grammar = object("A projection of Banyan: from events to tables.", "a mapping with projection and tables",
	need("projection", one("Its name, and that of the schema that readers use.", "a plain SQL name: small letters, digits and _, at most 40, that begins with a letter", projectionName)),
	may("comment", comment()),
	may("source", one("Whose events; left out, what the topics' names begin with.", "a short name such as shop", sourceName)),
	may("order", words("partitioned, or aligned: one owner, in the order of commits.", "partitioned", "aligned")),
	may("settings", settingsShape()),
	may("upcast", upcastShape()),
	may("tables", tablesShape()),
	may("groups", groupsShape()),
	may("windows", windowsShape()),
	may("views", viewsShape()),
	may("timers", timersShape()),
	may("effects", effectsShape()),
	may("api", apiShape()))
