package form

import (
	"net/url"
	"strconv"
	"time"

	"github.com/starling-im/starling/internal/xmpp/datetime"
)

// check says what is wrong with a value; empty when nothing is. A datatype that is not
// known is taken as text (XEP-0122 §4.1).
func (v Validation) check(value string) string {
	switch v.Datatype {
	case "xs:integer", "xs:long", "xs:int", "xs:short", "xs:byte", "xs:nonNegativeInteger":
		n, ok := integer(value, v.Datatype)
		if !ok {
			return "is not a whole number, or out of range"
		}
		if least, ok := integer(v.Min, "xs:long"); ok && n < least {
			return "is out of range" + v.words()
		}
		if greatest, ok := integer(v.Max, "xs:long"); ok && n > greatest {
			return "is out of range" + v.words()
		}
	case "xs:dateTime":
		at, err := datetime.Parse(value)
		if err != nil {
			return "is not a date and time"
		}
		if t, err := datetime.Parse(v.Min); err == nil && at.Before(t) {
			return "is too early"
		}
		if t, err := datetime.Parse(v.Max); err == nil && at.After(t) {
			return "is too late"
		}
	case "xs:date":
		if _, err := time.Parse(time.DateOnly, value); err != nil {
			return "is not a date"
		}
		if v.Min != "" && value < v.Min || v.Max != "" && value > v.Max {
			return "is out of range" + v.words()
		}
	case "xs:anyURI":
		if u, err := url.Parse(value); err != nil || u.Scheme == "" {
			return "is not a URI"
		}
	case "xs:boolean":
		if value != "0" && value != "1" && value != "false" && value != "true" {
			return "is neither true nor false"
		}
	}
	return ""
}

// words names the bounds.
func (v Validation) words() string {
	switch {
	case v.Min != "" && v.Max != "":
		return ", which is from " + v.Min + " to " + v.Max
	case v.Min != "":
		return ", which begins at " + v.Min
	}
	return ", which ends at " + v.Max
}

// integer reads a number of the datatype, whose bounds are those of the registry
// (XEP-0122 §7.2.2.2). Deviation: xs:integer has those of xs:long.
func integer(s, datatype string) (int64, bool) {
	bits := 64
	switch datatype {
	case "xs:int":
		bits = 32
	case "xs:short":
		bits = 16
	case "xs:byte":
		bits = 8
	}
	n, err := strconv.ParseInt(s, 10, bits)
	return n, err == nil && (n >= 0 || datatype != "xs:nonNegativeInteger")
}
