package money

import "strings"

// The currencies of ISO 4217 that are in use, by the number of decimals of
// their minor unit. Funds codes, metals and testing codes are left out.
var byMinorUnit = [5]string{
	0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
	2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF " +
		"CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF " +
		"IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR " +
		"MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD " +
		"SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG " +
		"YER ZAR ZMW ZWG",
	3: "BHD IQD JOD KWD LYD OMR TND",
}

var minorUnits = func() map[string]int {
	m := make(map[string]int, 180)
	for n, codes := range byMinorUnit {
		for _, code := range strings.Fields(codes) {
			m[code] = n
		}
	}
	return m
}()

// MinorUnit gives the number of decimals of a currency's minor unit: 2 for
// GBP, 0 for JPY, 3 for KWD. ok is false for a code that ISO 4217 does not
// list as a currency in use.
func MinorUnit(currency string) (decimals int, ok bool) {
	decimals, ok = minorUnits[currency]
	return decimals, ok
}
